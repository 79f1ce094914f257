"""`collector check`: whether everything is there that a replica needs, before it is deployed.

Facts are asked for (`nats_facts`, `mongodb_facts`), then judged without asking anybody (`nats_findings`,
`mongodb_findings`). Nothing is changed by it, in NATS or in MongoDB.
"""
