insert into state values (1, X'01a22ab136e571e8b620d70bbc69e874', 1796012587030, 1796012587005);
insert into cursor values ('server.fs-0p26ebmtef0n', 16);
insert into assignment values (X'01a22ab13d7172a39e32f545c45e3b87', 14, 'assigned');
insert into scrub values (1, 1796012587023, NULL, NULL);
