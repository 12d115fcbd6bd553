/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * belfryctl transport, subsystem, ns, listener, host: the NVMe side, a piece at a time ('export' does all at once).
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "ctl.h"

static int
transport_create(struct ctl *c, char **args, int nargs, struct ctl_opt *opts)
{
	static const char *const member[][2] = {
		{ "queue-depth", "max_queue_depth" },
		{ "io-queues", "max_io_qpairs_per_ctrlr" },
		{ "io-size", "max_io_size" }
	};
	json_t *p = json_pack("{s:s}", "trtype", "VFIOUSER");
	uint64_t v;

	for (size_t i = 0; i < ARRAY_SIZE(member); i++) {
		const char *s = ctl_opt(opts, member[i][0]);

		if (s && !ctl_parse_size(s, member[i][0], &v)) {
			json_decref(p);
			return CTL_USAGE;
		}
		if (s)
			json_object_set_new(p, member[i][1],
					    json_integer((json_int_t)v));
	}
	if (ctl_opt(opts, "trap-doorbells"))
		json_object_set_new(p, "disable_mappable_bar0", json_true());
	return ctl_do_say(c, "nvmf_create_transport", p,
			  "Created the vfio-user transport.");
}

static int
subsystem_list(struct ctl *c, char **args, int nargs, struct ctl_opt *opts)
{
	json_t *r = ctl_call(c, "nvmf_get_subsystems",
			     nargs ? json_pack("{s:s}", "nqn", args[0]) : NULL,
			     NULL),
	       *s;
	struct table *t;
	size_t i;

	if (!r)
		return CTL_FAILED;
	if (c->json) {
		ctl_print_json(r);
		json_decref(r);
		return CTL_OK;
	}
	t = table_new("NQN,TYPE,SERIAL,MODEL,NAMESPACES>,LISTENERS>,HOSTS");
	json_array_foreach(r, i, s) {
		bool any = json_is_true(json_object_get(s, "allow_any_host"));

		table_row(
			t, json_string_value(json_object_get(s, "nqn")),
			json_string_value(json_object_get(s, "subtype")),
			json_string_value(json_object_get(s, "serial_number")),
			json_string_value(json_object_get(s, "model_number")),
			ctl_fmt("%zu", json_array_size(json_object_get(
					       s, "namespaces"))),
			ctl_fmt("%zu", json_array_size(json_object_get(
					       s, "listen_addresses"))),
			any ? "any"
			    : ctl_fmt("%zu listed",
				      json_array_size(
					      json_object_get(s, "hosts"))),
			NULL);
	}
	table_print(t, stdout);
	json_decref(r);
	return CTL_OK;
}

static int
subsystem_create(struct ctl *c, char **args, int nargs, struct ctl_opt *opts)
{
	json_t *p = json_pack("{s:s, s:b}", "nqn", args[0], "allow_any_host",
			      !ctl_opt(opts, "listed-hosts-only"));
	const char *s;
	uint32_t n;

	if ((s = ctl_opt(opts, "serial")))
		json_object_set_new(p, "serial_number", json_string(s));
	if ((s = ctl_opt(opts, "model")))
		json_object_set_new(p, "model_number", json_string(s));
	if ((s = ctl_opt(opts, "max-namespaces"))) {
		if (!ctl_parse_u32(s, "max-namespaces", &n)) {
			json_decref(p);
			return CTL_USAGE;
		}
		json_object_set_new(p, "max_namespaces", json_integer(n));
	}
	if (ctl_opt(opts, "nssr"))
		json_object_set_new(p, "enable_nssr", json_true());
	return ctl_do_say(c, "nvmf_create_subsystem", p,
			  "Created subsystem %s.", args[0]);
}

static int
subsystem_delete(struct ctl *c, char **args, int nargs, struct ctl_opt *opts)
{
	return ctl_do_say(c, "nvmf_delete_subsystem",
			  json_pack("{s:s}", "nqn", args[0]),
			  "Deleted subsystem %s.", args[0]);
}

static int
ns_add(struct ctl *c, char **args, int nargs, struct ctl_opt *opts)
{
	static const char *const same[] = { "uuid", "nguid", "eui64" };
	json_t *ns = json_pack("{s:s}", "bdev_name", args[1]), *r;
	const char *s;
	uint32_t nsid;

	for (size_t i = 0; i < ARRAY_SIZE(same); i++)
		if ((s = ctl_opt(opts, same[i])))
			json_object_set_new(ns, same[i], json_string(s));
	if ((s = ctl_opt(opts, "nsid"))) {
		if (!ctl_parse_u32(s, "nsid", &nsid)) {
			json_decref(ns);
			return CTL_USAGE;
		}
		json_object_set_new(ns, "nsid", json_integer(nsid));
	}
	r = ctl_call(c, "nvmf_subsystem_add_ns",
		     json_pack("{s:s, s:o}", "nqn", args[0], "namespace", ns),
		     NULL);
	if (!r)
		return CTL_FAILED;
	if (c->json)
		ctl_print_json(r);
	else
		printf("Added namespace %lld.\n",
		       (long long)json_integer_value(r));
	json_decref(r);
	return CTL_OK;
}

static int
ns_remove(struct ctl *c, char **args, int nargs, struct ctl_opt *opts)
{
	uint32_t nsid;

	if (!ctl_parse_u32(args[1], "nsid", &nsid))
		return CTL_USAGE;
	return ctl_do_say(c, "nvmf_subsystem_remove_ns",
			  json_pack("{s:s, s:I}", "nqn", args[0], "nsid",
				    (json_int_t)nsid),
			  "Removed namespace %u.", nsid);
}

json_t *
ctl_listener_params(const char *nqn, const char *dir,
		    const struct ctl_opt *opts)
{
	static const char *const extra[] = { "mode", "owner", "group" };
	json_t *addr = json_pack("{s:s, s:s, s:s}", "trtype", "VFIOUSER",
				 "traddr", dir, "trsvcid", "0");
	json_t *p = json_pack("{s:s, s:o}", "nqn", nqn, "listen_address", addr);

	for (size_t i = 0; i < ARRAY_SIZE(extra); i++)
		if (ctl_opt(opts, extra[i]))
			json_object_set_new(
				p, extra[i],
				json_string(ctl_opt(opts, extra[i])));
	if (ctl_opt(opts, "trap-doorbells"))
		json_object_set_new(p, "disable_mappable_bar0", json_true());
	return p;
}

static int
listener(struct ctl *c, const char *method, const char *nqn, const char *dir,
	 const struct ctl_opt *opts, const char *said)
{
	char *path = ctl_path(dir);
	json_t *p = ctl_listener_params(nqn, path, opts);

	free(path);
	return ctl_do_say(c, method, p, "%s %s/cntrl.", said, dir);
}

static int
listener_add(struct ctl *c, char **args, int nargs, struct ctl_opt *opts)
{
	return listener(c, "nvmf_subsystem_add_listener", args[0], args[1],
			opts, "Listening on");
}

static int
listener_remove(struct ctl *c, char **args, int nargs, struct ctl_opt *opts)
{
	return listener(c, "nvmf_subsystem_remove_listener", args[0], args[1],
			opts, "No longer listening on");
}

static int
host_allow(struct ctl *c, char **args, int nargs, struct ctl_opt *opts)
{
	if (!strcmp(args[1], "any"))
		return ctl_do_say(c, "nvmf_subsystem_allow_any_host",
				  json_pack("{s:s, s:b}", "nqn", args[0],
					    "allow_any_host", 1),
				  "Any host may connect.");
	return ctl_do_say(c, "nvmf_subsystem_add_host",
			  json_pack("{s:s, s:s}", "nqn", args[0], "host",
				    args[1]),
			  "Host %s may connect.", args[1]);
}

static int
host_deny(struct ctl *c, char **args, int nargs, struct ctl_opt *opts)
{
	if (!strcmp(args[1], "any"))
		return ctl_do_say(c, "nvmf_subsystem_allow_any_host",
				  json_pack("{s:s, s:b}", "nqn", args[0],
					    "allow_any_host", 0),
				  "Only listed hosts may connect.");
	return ctl_do_say(c, "nvmf_subsystem_remove_host",
			  json_pack("{s:s, s:s}", "nqn", args[0], "host",
				    args[1]),
			  "Host %s may no longer connect.", args[1]);
}

struct ctl_cmd cmds_nvmf[] = {
	{ "transport create",
	  "",
	  "Create the vfio-user transport",
	  0,
	  0,
	  transport_create,
	  { { "queue-depth", "N", "most entries of a queue [1024]", NULL },
	    { "io-queues", "N", "most I/O queue pairs of a controller [128]",
	      NULL },
	    { "io-size", "SIZE", "largest transfer [1M]", NULL },
	    { "trap-doorbells", NULL, "do not let clients map the doorbells",
	      NULL } } },
	{ "subsystem list",
	  "[NQN]",
	  "List subsystems",
	  0,
	  1,
	  subsystem_list,
	  { { 0 } } },
	{ "subsystem create",
	  "NQN",
	  "Create a subsystem",
	  1,
	  1,
	  subsystem_create,
	  { { "serial", "TEXT", "serial number, at most 20 characters", NULL },
	    { "model", "TEXT", "model number, at most 40 characters", NULL },
	    { "max-namespaces", "N", "1 to 1024", NULL },
	    { "listed-hosts-only", NULL,
	      "refuse clients until a host is allowed", NULL },
	    { "nssr", NULL, "let a guest reset the whole subsystem", NULL } } },
	{ "subsystem delete",
	  "NQN",
	  "Delete one, with listeners and namespaces",
	  1,
	  1,
	  subsystem_delete,
	  { { 0 } } },
	{ "ns add",
	  "NQN BDEV",
	  "Add a namespace (guests see it at once)",
	  2,
	  2,
	  ns_add,
	  { { "nsid", "N", "its number [lowest free]", NULL },
	    { "uuid", "UUID", "identity [the block device's]", NULL },
	    { "nguid", "HEX32", "identity", NULL },
	    { "eui64", "HEX16", "identity", NULL } } },
	{ "ns remove",
	  "NQN NSID",
	  "Remove a namespace",
	  2,
	  2,
	  ns_remove,
	  { { 0 } } },
	{ "listener add",
	  "NQN DIR",
	  "Listen on DIR/cntrl",
	  2,
	  2,
	  listener_add,
	  { LISTENER_OPTS } },
	{ "listener remove",
	  "NQN DIR",
	  "Stop listening; drains and disconnects",
	  2,
	  2,
	  listener_remove,
	  { { 0 } } },
	{ "host allow",
	  "NQN HOST|any",
	  "Let a host connect",
	  2,
	  2,
	  host_allow,
	  { { 0 } } },
	{ "host deny",
	  "NQN HOST|any",
	  "Take that back",
	  2,
	  2,
	  host_deny,
	  { { 0 } } },
	{ 0 },
};
