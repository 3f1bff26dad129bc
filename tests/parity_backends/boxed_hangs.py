"""A backend that never comes back."""

import time

while True:
    time.sleep(1)
