"""How a process lives on its machine: it ends in order, waits through outages, and counts its cores."""
