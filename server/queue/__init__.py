"""What the queue does between the door and the engine: fusion, waiting and waking, housekeeping."""
