insert into audit (at, kind, user_id, subject, address, detail) values
    (1764000000006, 'user-added', 1, 'admin@example.org', '192.0.2.7', '{"role":"admin"}');
