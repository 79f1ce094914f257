"""`collector check`: whether NATS and MongoDB are as a replica needs them, before a deployment.

Facts are read from the servers (`nats_facts`, `mongodb_facts`), then judged without any request (`nats_findings`,
`mongodb_findings`). The check changes nothing in NATS or MongoDB.
"""
