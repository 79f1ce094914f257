"""A recipe of deploy/kubernetes/ at work: real replicas, a load that changes, and Kubernetes' autoscaler simulated."""
