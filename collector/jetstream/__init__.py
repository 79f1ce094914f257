"""All that is said to NATS: the connection, the pulls and the answers, the bucket, the lag, the durables."""
