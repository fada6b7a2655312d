"""Providers of answers behind one interface."""
