"""Cameras, windows, the OpenGL backend, pictures of what a home can hold."""
