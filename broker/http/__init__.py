"""The aiohttp doors: data-plane streams, JSON for people, inter-broker streams, health and metrics."""
