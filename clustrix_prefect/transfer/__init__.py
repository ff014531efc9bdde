"""Moving contents to a cluster's store and back: chunked, verified, resumed."""
