"""One handler per request, free of transport: typed request in, typed response out."""
