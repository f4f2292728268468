"""The paper's tables by command: what a row needs, what it costs, what can run here, and what came out."""
