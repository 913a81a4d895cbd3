/* What the files of host.nats and host.tail share. */
#ifndef PH_BIND_NATS_H
#define PH_BIND_NATS_H

#include "nats.h"

/* nats.connect{loop = true}: pushes a connection on this VM's luv loop. Returns the number of results. */
int lb_nats_connect_loop(lua_State *L, const ph_nats_options *options);
/* nats.borrow(lightuserdata) */
int lb_nats_borrow(lua_State *L);
void lb_nats_push_info(lua_State *L, const ph_nats_info *info);
/* The blocking-mode connection at arg, borrowed; raises for anything else and when closed. */
ph_nats_conn *lb_nats_check_conn(lua_State *L, int arg);
/* conn:clock_offset() of both modes. */
int lb_nats_clock_offset(lua_State *L);

#endif
