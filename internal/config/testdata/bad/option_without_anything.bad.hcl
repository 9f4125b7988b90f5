ordered
