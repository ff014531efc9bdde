"""The flows that come with clustrix-prefect."""
