"""A small JSON contract over HTTP, so that a worker can be written in any language (docs/protocols/http.md)."""
