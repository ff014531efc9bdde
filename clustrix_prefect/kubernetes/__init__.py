"""The API server of a Kubernetes cluster: its objects, and the way into pods."""
