"""The programs that live beside ours, for real: Home Assistant and RabbitMQ. python3 -m tests.neighbours"""
