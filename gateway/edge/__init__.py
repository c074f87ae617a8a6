"""HTTP in: keys, bodies, routes and problem documents. Only this room and the console know HTTP requests."""
