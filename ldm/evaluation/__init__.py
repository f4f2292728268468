"""Measures of what models make, and pages that show them."""
