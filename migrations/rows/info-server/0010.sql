update files set deleted_seq = 1 where state = 'deleting';
