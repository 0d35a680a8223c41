"""HTTP and WebSocket: reads requests, writes answers; decides nothing else.

    Cors --> Door --> FastAPI --> chat.py, models.py, pages.py, websocket.py

Three pure-ASGI layers at most stand before a route: origins, then identity and errors, then
routing.
"""
