"""What projected gradients give: margins that are linear in the weights, fitted by logistic regression."""
