"""The error of KFP's driver, and of its double where it knows no answer."""


class DriverError(Exception):
    """The driver fails here, or the pipeline has something that the double does not know."""
