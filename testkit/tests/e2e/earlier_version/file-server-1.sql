insert into state values (1, X'01a22ab136e571e8b620d70bbc69e874', 1796012587222, 1796012587192);
insert into cursor values ('server.fs-7aoh1rcmqo63', 16);
insert into assignment values (X'01a22ab13d7172a39e32f545c45e3b87', 13, 'assigned');
insert into scrub values (1, 1796012587209, NULL, NULL);
