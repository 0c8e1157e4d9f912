insert into unknown (file) values (x'01890a5dac96774bbcceb302099a8058');
