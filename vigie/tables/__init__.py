"""One reader of tables: of files, of databases and of what is sent."""
