"""A small JSON contract over HTTP; a worker can be in any language (docs/protocols/http.md)."""
