"""What the commands of `image_data` do, one module a command: each has ``run(arguments) -> exit status``."""
