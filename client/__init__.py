"""The Python SDK. ``async with ottla.client.connect("127.0.0.1:7080") as client: ...``"""
