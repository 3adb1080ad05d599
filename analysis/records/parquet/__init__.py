"""Records in Parquet: the files of a study joined to one `dataset`, read as records and curves (`source`), and as rows of `samples`."""
