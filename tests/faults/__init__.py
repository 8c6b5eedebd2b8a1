"""What happens to the people on a real server when something breaks: twenty-four faults."""
