"""Packages of networks from elsewhere."""
