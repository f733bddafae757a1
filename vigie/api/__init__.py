"""The HTTP API: translation between HTTP and the services, without logic of its own."""
