"""Members of consumer groups for the fault injection: one SDK consumer each, in a process of its own."""
