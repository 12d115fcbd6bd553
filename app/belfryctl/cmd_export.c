/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * belfryctl export, unexport, list: a block device to a socket in one go, undone whole when a step fails.
 */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl.h"

/* What this export made, so that a failure can take it back. */
struct undo {
	bool dir, subsystem, ns;
	json_int_t nsid;
};

static json_t *
find_by(json_t *array, const char *key, const char *value)
{
	json_t *e;
	size_t i;

	json_array_foreach(array, i, e) {
		const char *s = json_string_value(json_object_get(e, key));

		if (s && !strcmp(s, value))
			return e;
	}
	return NULL;
}

/* The subsystem that listens on @dir, or NULL. Borrowed from @subsystems. */
static json_t *
listening_on(json_t *subsystems, const char *dir)
{
	json_t *s;
	size_t i;

	json_array_foreach(subsystems, i, s)
		if (find_by(json_object_get(s, "listen_addresses"), "traddr",
			    dir))
			return s;
	return NULL;
}

static bool
ensure_transport(struct ctl *c)
{
	json_t *r = ctl_call(c, "nvmf_get_transports", NULL, NULL);
	bool have = r && json_array_size(r) > 0;

	json_decref(r);
	if (!r || have)
		return have;
	return ctl_do(c, "nvmf_create_transport",
		      json_pack("{s:s}", "trtype", "VFIOUSER")) == CTL_OK;
}

/* Of a user, or a group, by number or name, as the daemon has it; -1: not given, or unknown, which the daemon will complain of. */
static uint32_t
id_of(const char *s, bool group)
{
	struct passwd *pw;
	struct group *gr;
	uint64_t n;

	if (!s)
		return UINT32_MAX;
	if (!util_parse_u64(s, &n) && n < INT32_MAX)
		return (uint32_t)n;
	gr = group ? getgrnam(s) : NULL;
	pw = group ? NULL : getpwnam(s);
	return pw ? pw->pw_uid : gr ? gr->gr_gid : UINT32_MAX;
}

/* The whole path, or NULL after a message. Makes the directory when it is not there, for those who get the socket. */
static char *
ensure_dir(const char *dir, const struct ctl_opt *opts, struct undo *u)
{
	const char *group = ctl_opt(opts, "group");
	uid_t uid = id_of(ctl_opt(opts, "owner"), false);
	gid_t gid = id_of(group, true);
	char *path = ctl_path(dir);

	if (mkdir(path, 0700) == 0) {
		u->dir = true;
		if (!chown(path, uid, gid) && (!group || !chmod(path, 0710)))
			return path;
		util_complain(
			"cannot give directory %s to --owner or --group: %s",
			dir, strerror(errno));
		rmdir(path);
	} else if (errno == EEXIST) {
		return path;
	} else {
		util_complain("cannot create directory %s: %s", dir,
			      strerror(errno));
	}
	free(path);
	return NULL;
}

static bool
ensure_subsystem(struct ctl *c, json_t *subsystems, const char *nqn,
		 const char *uuid, struct undo *u)
{
	char serial[21] = "BELFRY";
	size_t n = strlen(serial);

	if (find_by(subsystems, "nqn", nqn))
		return true;
	for (; *uuid && n < sizeof(serial) - 1; uuid++)
		if (*uuid != '-')
			serial[n++] = *uuid;
	u->subsystem = ctl_do(c, "nvmf_create_subsystem",
			      json_pack("{s:s, s:b, s:s}", "nqn", nqn,
					"allow_any_host", 1, "serial_number",
					serial)) == CTL_OK;
	return u->subsystem;
}

static bool
ensure_ns(struct ctl *c, json_t *subsystems, const char *nqn, const char *bdev,
	  struct undo *u)
{
	json_t *s = find_by(subsystems, "nqn", nqn), *r;

	if (s && find_by(json_object_get(s, "namespaces"), "bdev_name", bdev))
		return true;
	r = ctl_call(c, "nvmf_subsystem_add_ns",
		     json_pack("{s:s, s:{s:s}}", "nqn", nqn, "namespace",
			       "bdev_name", bdev),
		     NULL);
	u->ns = r != NULL;
	u->nsid = json_integer_value(r);
	json_decref(r);
	return u->ns;
}

static void
undo(struct ctl *c, const struct undo *u, const char *nqn, const char *dir)
{
	if (u->subsystem)
		ctl_do(c, "nvmf_delete_subsystem",
		       json_pack("{s:s}", "nqn", nqn));
	else if (u->ns)
		ctl_do(c, "nvmf_subsystem_remove_ns",
		       json_pack("{s:s, s:I}", "nqn", nqn, "nsid", u->nsid));
	if (u->dir)
		rmdir(dir);
}

static int
export_steps(struct ctl *c, const char *bdev, const char *dir,
	     const struct ctl_opt *opts, json_t *bdevs, json_t *subsystems,
	     struct undo *u)
{
	const char *uuid = json_string_value(
		json_object_get(json_array_get(bdevs, 0), "uuid"));
	const char *nqn_opt = ctl_opt(opts, "nqn");
	const char *nqn =
		nqn_opt ? nqn_opt
			: ctl_fmt("nqn.2014-08.org.nvmexpress:uuid:%s", uuid);
	json_t *busy = listening_on(subsystems, dir);

	if (busy) {
		fprintf(stderr,
			"belfryctl: %s/cntrl is a listener of %s already; 'belfryctl unexport %s' ends it\n",
			dir, json_string_value(json_object_get(busy, "nqn")),
			dir);
		return CTL_FAILED;
	}
	if (!ensure_transport(c) ||
	    !ensure_subsystem(c, subsystems, nqn, uuid, u) ||
	    !ensure_ns(c, subsystems, nqn, bdev, u) ||
	    ctl_do(c, "nvmf_subsystem_add_listener",
		   ctl_listener_params(nqn, dir, opts)) != CTL_OK) {
		undo(c, u, nqn, dir);
		return CTL_FAILED;
	}
	if (c->json) {
		json_t *out = json_pack("{s:s, s:s, s:s}", "bdev", bdev, "nqn",
					nqn, "socket",
					ctl_fmt("%s/cntrl", dir));

		ctl_print_json(out);
		json_decref(out);
	} else {
		printf("Exported %s as %s\nSocket: %s/cntrl\n", bdev, nqn, dir);
		printf("QEMU:   -device '{\"driver\":\"vfio-user-pci\",\"socket\":{\"path\":\"%s/cntrl\",\"type\":\"unix\"}}'\n",
		       dir);
	}
	return CTL_OK;
}

static int
export_bdev(struct ctl *c, char **args, int nargs, struct ctl_opt *opts)
{
	json_t *bdevs, *subsystems = NULL;
	struct undo u = { 0 };
	char *dir = NULL;
	int rc = CTL_FAILED;

	bdevs = ctl_call(c, "bdev_get_bdevs",
			 json_pack("{s:s}", "name", args[0]), NULL);
	if (!bdevs)
		return CTL_FAILED;
	subsystems = ctl_call(c, "nvmf_get_subsystems", NULL, NULL);
	if (subsystems)
		dir = ensure_dir(args[1], opts, &u);
	if (dir)
		rc = export_steps(c, args[0], dir, opts, bdevs, subsystems, &u);
	free(dir);
	json_decref(subsystems);
	json_decref(bdevs);
	return rc;
}

static int
unexport(struct ctl *c, char **args, int nargs, struct ctl_opt *opts)
{
	json_t *subsystems = ctl_call(c, "nvmf_get_subsystems", NULL, NULL), *s;
	char *dir = ctl_path(args[0]);
	int rc = CTL_FAILED;

	s = subsystems ? listening_on(subsystems, dir) : NULL;
	if (subsystems && !s)
		fprintf(stderr,
			"belfryctl: nothing listens on %s/cntrl; see 'belfryctl list'\n",
			dir);
	if (s) {
		const char *nqn = json_string_value(json_object_get(s, "nqn"));
		bool last = json_array_size(json_object_get(
				    s, "listen_addresses")) == 1;

		if (last && !ctl_opt(opts, "keep-subsystem"))
			rc = ctl_do_say(c, "nvmf_delete_subsystem",
					json_pack("{s:s}", "nqn", nqn),
					"Unexported %s; subsystem %s deleted.",
					dir, nqn);
		else
			rc = ctl_do_say(c, "nvmf_subsystem_remove_listener",
					ctl_listener_params(nqn, dir, opts),
					"Unexported %s.", dir);
	}
	free(dir);
	json_decref(subsystems);
	return rc;
}

static void
list_subsystem(struct table *t, json_t *s, json_t *bdevs, json_t *clients)
{
	json_t *ns, *addr;
	size_t i, k;

	json_array_foreach(json_object_get(s, "listen_addresses"), k, addr) {
		const char *dir =
			json_string_value(json_object_get(addr, "traddr"));
		json_t *client = find_by(clients, "traddr", dir);
		json_int_t pid = json_integer_value(json_object_get(
			json_object_get(client, "client"), "pid"));

		json_array_foreach(json_object_get(s, "namespaces"), i, ns) {
			const char *name = json_string_value(
				json_object_get(ns, "bdev_name"));
			json_t *b = find_by(bdevs, "name", name);
			uint64_t len =
				(uint64_t)json_integer_value(
					json_object_get(b, "block_size")) *
				(uint64_t)json_integer_value(
					json_object_get(b, "num_blocks"));

			table_row(t, ctl_fmt("%s/cntrl", dir),
				  json_string_value(json_object_get(s, "nqn")),
				  ctl_fmt("%lld",
					  (long long)json_integer_value(
						  json_object_get(ns, "nsid"))),
				  name, ctl_size(len),
				  pid ? ctl_fmt("pid %lld", (long long)pid)
				      : "none",
				  NULL);
		}
		if (!json_array_size(json_object_get(s, "namespaces")))
			table_row(t, ctl_fmt("%s/cntrl", dir),
				  json_string_value(json_object_get(s, "nqn")),
				  "-", "-", "-",
				  pid ? ctl_fmt("pid %lld", (long long)pid)
				      : "none",
				  NULL);
	}
}

static int
list(struct ctl *c, char **args, int nargs, struct ctl_opt *opts)
{
	json_t *subsystems, *bdevs, *clients, *s;
	struct table *t;
	size_t i;
	int rc = CTL_FAILED;

	subsystems = ctl_call(c, "nvmf_get_subsystems", NULL, NULL);
	bdevs = subsystems ? ctl_call(c, "bdev_get_bdevs", NULL, NULL) : NULL;
	clients = bdevs ? ctl_call(c, "belfry_get_clients", NULL, NULL) : NULL;
	if (clients && c->json) {
		json_t *all = json_pack("{s:O, s:O, s:O}", "subsystems",
					subsystems, "bdevs", bdevs, "clients",
					clients);

		ctl_print_json(all);
		json_decref(all);
		rc = CTL_OK;
	} else if (clients) {
		t = table_new("SOCKET,NQN,NSID>,BDEV,SIZE>,CLIENT");
		json_array_foreach(subsystems, i, s)
			list_subsystem(t, s, bdevs, clients);
		table_print(t, stdout);
		rc = CTL_OK;
	}
	json_decref(clients);
	json_decref(bdevs);
	json_decref(subsystems);
	return rc;
}

struct ctl_cmd cmds_export[] = {
	{ "export",
	  "BDEV DIR",
	  "Offer a block device to a VM on DIR/cntrl",
	  2,
	  2,
	  export_bdev,
	  { { "nqn", "NQN", "of the subsystem [from the device's UUID]", NULL,
	      0 },
	    LISTENER_OPTS } },
	{ "unexport",
	  "DIR",
	  "Take that back; drains and disconnects",
	  1,
	  1,
	  unexport,
	  { { "keep-subsystem", NULL, "even when it was its last listener",
	      NULL } } },
	{ "list",
	  "",
	  "List what is exported, and to whom",
	  0,
	  0,
	  list,
	  { { 0 } } },
	{ 0 },
};
