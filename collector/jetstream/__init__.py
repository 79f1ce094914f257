"""The traffic with NATS: the connection, the pulls and the answers, the bucket, the lag, the durables."""
