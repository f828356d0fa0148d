"""What the console reads. Every function takes the actor and checks the permission before it asks."""
