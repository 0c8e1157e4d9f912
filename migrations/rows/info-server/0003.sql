update sessions set address = '192.0.2.7', zone = 'eu';
