"""The checks, a class a section of the contract. A check is a method that holds one line."""
