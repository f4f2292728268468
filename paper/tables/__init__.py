"""Tables and figures of the paper as data: values, protocols, contradictions."""

from paper.tables.read import Protocol, Row, Table, disagreements, figure, sources, table

__all__ = ["Protocol", "Row", "Table", "disagreements", "figure", "sources", "table"]
