"""What is done with files and their text, whatever they hold."""
