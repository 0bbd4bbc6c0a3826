"""Wrong versions of the baseline's operators, and the small scenarios that they are graded on."""
