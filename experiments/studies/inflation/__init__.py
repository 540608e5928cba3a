"""What a cheating seller gains by each attack, by each method, and which countermeasures stop it."""
