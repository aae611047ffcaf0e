"""Images in shards: tar and Parquet files of many images each, read in any order through copies of bounded size."""
