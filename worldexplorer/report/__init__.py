"""What a person looks at when a job is done: contact sheets and videos."""
