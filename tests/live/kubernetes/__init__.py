"""A Kubernetes of our own: a control plane and a node, in namespaces of this machine."""
