"""What the paper prints, as data: its tables and figures, how they were measured, and where they disagree."""

from paper.tables.read import Protocol, Row, Table, asked, disagreements, figure, sources, table

__all__ = ["Protocol", "Row", "Table", "asked", "disagreements", "figure", "sources", "table"]
