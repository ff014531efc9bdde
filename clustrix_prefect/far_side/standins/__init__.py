"""What a call meets when it imports Prefect or this package."""
