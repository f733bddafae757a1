"""Read tables as people have them: CSV, Excel and Parquet files, and other sources."""
