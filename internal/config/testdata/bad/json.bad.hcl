{"source": {"use": {"stdin": {}}}}
