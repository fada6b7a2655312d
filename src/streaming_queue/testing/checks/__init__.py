"""The checks: one class for each section of the contract, one or more methods for each line."""
